"""The classes of the foundation's frozen models; `portraitlab.world.foundation` loads them."""
