"""What is run by hand on a host with GPUs (docs/gpu.md); nothing here is collected by pytest."""
