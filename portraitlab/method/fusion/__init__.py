"""How the features of several references become identity tokens."""
