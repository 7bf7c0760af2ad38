"""The job `compression`: rate and distortion, compared with JPEG, JPEG2000 and WebP."""
