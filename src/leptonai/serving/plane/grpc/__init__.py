"""gRPC beside HTTP: the Open Inference Protocol over HTTP/2, on a port of its own. Imported only when it is on."""
