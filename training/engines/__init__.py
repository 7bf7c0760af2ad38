"""Engines, which hold and update a network's parameters (PyTorch, DeepSpeed ZeRO, offload), and checkpoints."""
