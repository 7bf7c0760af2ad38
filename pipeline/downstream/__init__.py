"""What pretrained networks are good for: jobs that read weights and a data set, and write a report."""
