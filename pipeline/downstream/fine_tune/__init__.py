"""The jobs `classification` and `tagging`: fine-tuning with few labels, beside baselines."""
