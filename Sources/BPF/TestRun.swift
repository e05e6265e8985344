internal import CLibbpf
internal import Glibc

/// What a program did with a packet in a test run.
public struct TestRunResult: Sendable {
    /// What it returned: a TC or XDP action.
    public let action: UInt32
    /// The packet afterwards.
    public let packet: [UInt8]
    /// Mean time of one run, ns.
    public let duration: UInt32
}

extension Descriptor {
    /// Runs a TC or XDP program on a packet that it did not arrive with (`BPF_PROG_TEST_RUN`).
    ///
    /// The packet seems to arrive at the loopback device of the calling thread's network namespace, or, at TC, at
    /// `interfaceIndex`. With `summed`, a device has summed it (CHECKSUM_COMPLETE); the kernel then compares the sum with the
    /// packet that the program leaves and throws EBADMSG where they differ (Linux 6.16; EINVAL before). At XDP, `firstBuffer` is how many of its bytes are in the first of the frame's buffers (Linux 6.18),
    /// and `frameInterface` the device that the frame seems to arrive at.
    public func testRun(
        _ packet: [UInt8], interfaceIndex: UInt32? = nil, gsoSize: UInt32 = 0, firstBuffer: UInt32? = nil,
        frameInterface: UInt32? = nil, summed: Bool = false,
        repeat count: Int32 = 1
    ) throws(BPFError) -> TestRunResult {
        var context: [UInt8] = []
        if firstBuffer != nil || frameInterface != nil {
            var frame = xdp_md()
            frame.data_end = firstBuffer ?? UInt32(packet.count)
            frame.ingress_ifindex = frameInterface ?? 0
            context = withUnsafeBytes(of: frame) { Array($0) }
        } else if interfaceIndex != nil || gsoSize != 0 {
            var buffer = __sk_buff()
            buffer.ifindex = interfaceIndex ?? 0
            buffer.gso_size = gsoSize
            context = withUnsafeBytes(of: buffer) { Array($0) }
        }
        var output = [UInt8](repeating: 0, count: packet.count + 256)
        var outcome = (action: UInt32(0), length: 0, duration: UInt32(0))
        let program = number
        let result = packet.withUnsafeBytes { input in
            output.withUnsafeMutableBytes { output in
                context.withUnsafeBytes { context in
                    withOptions(bpf_test_run_opts.self) { options in
                        options.pointee.repeat = count
                        options.pointee.flags = summed ? Self.summedFlag : 0
                        options.pointee.data_in = input.baseAddress
                        options.pointee.data_size_in = UInt32(input.count)
                        options.pointee.data_out = output.baseAddress
                        options.pointee.data_size_out = UInt32(output.count)
                        if !context.isEmpty {
                            options.pointee.ctx_in = context.baseAddress
                            options.pointee.ctx_size_in = UInt32(context.count)
                        }
                        let result = bpf_prog_test_run_opts(program, options)
                        outcome = (
                            options.pointee.retval, Int(options.pointee.data_size_out), options.pointee.duration
                        )
                        return result
                    }
                }
            }
        }
        try check(result, "run a program on a packet")
        return TestRunResult(
            action: outcome.action, packet: Array(output.prefix(outcome.length)), duration: outcome.duration)
    }

    /// `BPF_F_TEST_SKB_CHECKSUM_COMPLETE`, which Debian 12's headers do not have.
    private static let summedFlag: UInt32 = 1 << 2

    /// Runs an XDP program on `count` frames of `length` zero bytes and does with each what it returns, a redirect included
    /// (`BPF_F_TEST_XDP_LIVE_FRAMES`, Linux 5.18), in the calling thread's network namespace.
    ///
    /// Frames are recycled: all but the first hold what became of an earlier one.
    public func sendFrames(length: Int, count: Int32) throws(BPFError) {
        let frame = [UInt8](repeating: 0, count: length)
        let program = number
        let result = frame.withUnsafeBytes { frame in
            withOptions(bpf_test_run_opts.self) { options in
                options.pointee.flags = UInt32(1 << 1)  // BPF_F_TEST_XDP_LIVE_FRAMES
                options.pointee.repeat = count
                options.pointee.batch_size = 64
                options.pointee.data_in = frame.baseAddress
                options.pointee.data_size_in = UInt32(frame.count)
                return bpf_prog_test_run_opts(program, options)
            }
        }
        try check(result, "generate frames")
    }

    /// Runs a syscall program on `argument`, which it may change.
    @discardableResult
    public func run<Argument: BitwiseCopyable>(_ argument: inout Argument) throws(BPFError) -> UInt32 {
        var value: UInt32 = 0
        let program = number
        let result = withUnsafeMutablePointer(to: &argument) { argument in
            withOptions(bpf_test_run_opts.self) { options in
                options.pointee.ctx_in = UnsafeRawPointer(argument)
                options.pointee.ctx_size_in = UInt32(MemoryLayout<Argument>.size)
                let result = bpf_prog_test_run_opts(program, options)
                value = options.pointee.retval
                return result
            }
        }
        try check(result, "run a program")
        return value
    }
}
