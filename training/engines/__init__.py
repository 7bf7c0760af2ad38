"""How a network's parameters are held and updated: plain PyTorch, DeepSpeed ZeRO, offload; and checkpoints."""
