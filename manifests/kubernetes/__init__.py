"""Kubernetes documents as pure functions of a deployment's spec and the cluster's options."""
