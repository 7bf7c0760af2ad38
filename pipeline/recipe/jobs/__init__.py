"""Settings of every downstream job, without what carries it out."""
