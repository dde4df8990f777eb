"""The simulated engine: the real Dynamo mocker, timed by this project's models of memory and performance."""
