"""Pages and texts about data and finished runs."""
