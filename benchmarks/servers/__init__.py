"""A raw fast server of an S3 and a GCS JSON subset on loopback, in memory or made up, so that clients are what is measured."""
