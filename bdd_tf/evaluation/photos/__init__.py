"""The evaluation protocol of the data set `photos`: held-out generators and cameras under named conditions."""
