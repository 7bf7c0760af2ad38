"""The job `compression`: rate and distortion beside JPEG, JPEG2000 and WebP."""
