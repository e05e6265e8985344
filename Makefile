# fastnat: `make` prints this help.
BPF_CLANG ?= $(firstword $(wildcard /usr/bin/clang) clang)
MULTIARCH := $(shell gcc -print-multiarch 2>/dev/null || $(BPF_CLANG) -print-multiarch)
BPF_CFLAGS := -target bpf -mcpu=v3 -O2 -g -Wall -Wextra -Werror -Wno-unused-parameter -Wno-unused-function \
	-Wno-sign-compare -I/usr/include/$(MULTIARCH)
BPF_HEADERS := $(wildcard bpf/*.h bpf/*/*.h)
BPF_OBJECT := .build/bpf/datapath.o
SKELETON := Sources/CDatapath/generated/datapath.skel.h

.PHONY: bpf
bpf: $(SKELETON)

$(BPF_OBJECT): bpf/fastnat.bpf.c $(BPF_HEADERS)
	@mkdir -p $(@D)
	$(BPF_CLANG) $(BPF_CFLAGS) -c $< -o $@

$(SKELETON): $(BPF_OBJECT)
	@mkdir -p $(@D)
	bpftool gen skeleton $< name datapath > $@.tmp && mv $@.tmp $@
