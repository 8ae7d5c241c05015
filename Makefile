# A thin alias: everything is in dev.py, which needs no make.
.PHONY: demo test check protos lock
demo test check protos lock:
	python3 dev.py $@
