"""From raw sources to rows that a network can be trained on.

Sources become a cleaned corpus, the corpus becomes token ids, `compose` makes examples of them and `corrupt` splits
each example into what the network sees and what it must predict. Nothing here knows about networks or experiments.
"""
