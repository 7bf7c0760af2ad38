"""Jobs that show what auto-encoders learned: codes, restoration, generation, discrete codes, curves."""
