"""Classes of the foundation's frozen models; `portraitlab.world.pretrained` loads them."""
