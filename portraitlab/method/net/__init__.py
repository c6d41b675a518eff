"""How identity tokens and control image enter the frozen backbone."""
