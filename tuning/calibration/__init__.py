"""The performance model held against loads that real servers were given, and its constants fitted to them."""
