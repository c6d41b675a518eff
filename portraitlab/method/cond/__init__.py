"""Draw the control image that steers the layout."""
