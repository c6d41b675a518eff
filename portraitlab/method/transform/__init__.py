"""Change the pictures of a training batch before they are noised."""
