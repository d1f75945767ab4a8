"""What GCS says of buckets and objects: fields, conditions, errors. Nothing here reads or writes."""
