"""Face recognisers in torch for real photos: differentiable, for identity loss and judge."""
