/// Tests import this module and have namespaces, processes, topologies and packets too.
@_exported public import Lab
