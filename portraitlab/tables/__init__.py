"""Tables of the papers with their figures, the report page and W&B's dashboards."""
