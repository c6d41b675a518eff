"""Edit drawn pictures: mend their small faces."""
