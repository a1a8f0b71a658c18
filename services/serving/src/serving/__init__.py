"""Endpoints on Triton: deployments are brought up, traffic is routed and captured."""
