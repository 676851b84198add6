"""What `just peers`, `just truncation` and `just generator` share: children, clients, figures."""
