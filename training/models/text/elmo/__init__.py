"""The network of ELMo, its settings, and the spelling of the words that it reads."""
