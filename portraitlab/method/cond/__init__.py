"""What control image steers the layout."""
