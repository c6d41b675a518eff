"""Slots in which papers differ: fusion, cond, net, select, objective, transform, sampler, edit."""
