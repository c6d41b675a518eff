"""Edit drawn pictures: restore their small faces."""
