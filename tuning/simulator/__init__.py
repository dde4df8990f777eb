"""The simulated engine: the real Dynamo mocker, timed by our models of memory and performance."""
