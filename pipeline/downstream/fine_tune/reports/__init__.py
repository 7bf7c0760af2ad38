"""What is told of fine-tunings: a job's report, how its networks were trained, parts by language, a suite."""
