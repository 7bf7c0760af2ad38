"""From raw sources to rows that a network can be trained on.

Sources become a cleaned corpus, the corpus becomes token ids, `compose` builds examples from them, and `corrupt` splits
each example into what the network sees and what it must predict. Nothing here depends on networks or experiments.
"""
