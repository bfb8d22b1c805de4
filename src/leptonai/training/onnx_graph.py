"""The published graph: encoder, the user's model, and the tail that decides, in one ONNX file.

A route of a framework gives the middle: a graph of one input (the encoded array) and one output (what `Learner.predict`
gives). It is written for some version of the operator sets; encoder and tail use operators that are the same in all
versions from `OLDEST` on, so they adopt the model's version, and only an older model has to be converted.
"""

import onnx
from onnx import TensorProto, compose, helper, inliner, version_converter

from leptonai.core.errors import TooLarge, Unsupported
from leptonai.training import onnx_encoder, onnx_inputs, onnx_tail
from leptonai.training.onnx_parts import ML, Parts
from leptonai.training.onnx_tail import Activations, Shape
from leptonai.training.several import of_input
from leptonai.training.spec import Encoding

OLDEST = 15
ADOPTED = 18  # what an older model is converted to
LIMIT = 2**31 - 2**20  # a protobuf file ends at 2 GiB

_KINDS = {
    "FP32": TensorProto.FLOAT,
    "FP64": TensorProto.DOUBLE,
    "INT64": TensorProto.INT64,
    "BOOL": TensorProto.BOOL,
    "UINT8": TensorProto.UINT8,
    "BYTES": TensorProto.STRING,
}


def publishable(middle: bytes, encoding: Encoding, activation: Activations, shape: Shape) -> bytes:
    """Return the ONNX file that takes rows as people have them. The middle's inputs and outputs are in the order of the encoding's.

    Raises `Unsupported`, or `TooLarge`, with the reason why this model cannot be put between encoder and tail.
    """
    model = onnx.load_model_from_string(middle)
    del middle
    taken, given = _ends(model, max(1, len(encoding.inputs)), max(1, len(encoding.goals)))
    if model.functions:
        model = inliner.inline_local_functions(model)
    model = _adopt(model)
    columns = [feature.column for feature in encoding.features]
    head, tail = Parts("encoder/", columns), Parts("tail/", columns)
    prefix = Parts("model/", columns).prefix
    model = compose.add_prefix(model, prefix, inplace=True)
    inputs = [of_input(encoding, part) for part in encoding.inputs] or [encoding]
    for one, end in zip(inputs, taken, strict=True):
        x = onnx_encoder.encode(head, one)
        head.add("Cast", x, output=prefix + end.name, to=end.type.tensor_type.elem_type)
    onnx_tail.decide(tail, [prefix + end.name for end in given], shape, activation, encoding)
    _assemble(model, head, tail, encoding, shape)
    if model.ByteSize() > LIMIT:
        raise TooLarge("the model is larger than 2 GiB, which one ONNX file cannot hold")
    return bytes(model.SerializeToString(deterministic=True))


def _ends(
    model: onnx.ModelProto, inputs: int, outputs: int
) -> tuple[list[onnx.ValueInfoProto], list[onnx.ValueInfoProto]]:
    """Return copies of the inputs and outputs. Raises `Unsupported` where there are not so many, or the batch size is fixed."""
    constants = {tensor.name for tensor in model.graph.initializer}
    taken = [value for value in model.graph.input if value.name not in constants]
    if len(taken) != inputs or len(model.graph.output) != outputs:
        needed = "one of each is" if inputs == outputs == 1 else f"{inputs} and {outputs} are"
        raise Unsupported(
            f"the model takes {len(taken)} inputs and gives {len(model.graph.output)} outputs, where {needed} needed"
        )
    for end in taken:
        first = end.type.tensor_type.shape.dim[:1]
        if first and first[0].HasField("dim_value"):
            raise Unsupported(f"the batch size is fixed at {first[0].dim_value}")
    return [_copy(end) for end in taken], [_copy(end) for end in model.graph.output]


def _copy(value: onnx.ValueInfoProto) -> onnx.ValueInfoProto:
    found = onnx.ValueInfoProto()
    found.CopyFrom(value)
    return found


def _adopt(model: onnx.ModelProto) -> onnx.ModelProto:
    """Bring the operator sets to versions that encoder and tail are written in."""
    versions = {opset.domain: opset.version for opset in model.opset_import}
    if versions.get("", OLDEST) < OLDEST:
        try:
            model = version_converter.convert_version(model, ADOPTED)
        except (RuntimeError, ValueError) as error:
            raise Unsupported(
                f"its operators of version {versions['']} cannot be brought to {ADOPTED}: {error}"
            ) from error
    versions = {opset.domain: opset.version for opset in model.opset_import}
    # From 1 to 3 only LabelEncoder changed its meaning; the others gained attributes.
    if versions.get(ML, 3) < 2 and any(node.op_type == "LabelEncoder" for node in model.graph.node):
        raise Unsupported("it uses LabelEncoder of ai.onnx.ml 1, which newer files do not know")
    versions[ML] = max(3, versions.get(ML, 3))
    versions.setdefault("", ADOPTED)
    del model.opset_import[:]
    model.opset_import.extend(helper.make_opsetid(domain, version) for domain, version in sorted(versions.items()))
    model.ir_version = max(8, model.ir_version)
    return model


def _assemble(model: onnx.ModelProto, head: Parts, tail: Parts, encoding: Encoding, shape: Shape) -> None:
    graph = model.graph
    nodes = [*head.nodes, *graph.node, *tail.nodes]
    del graph.node[:], graph.input[:], graph.output[:], graph.value_info[:]
    del model.metadata_props[:], graph.metadata_props[:]
    graph.node.extend(nodes)
    for node in graph.node:  # the exporters leave stack traces with the paths of this machine
        del node.metadata_props[:]
        node.doc_string = ""
    graph.initializer.extend([*head.constants, *tail.constants])
    _drop_unused_constants(graph)
    for spec in onnx_inputs.specs(encoding):
        graph.input.append(helper.make_tensor_value_info(spec.name, _KINDS[spec.datatype], ["batch", *spec.shape[1:]]))
    for spec in onnx_tail.outputs(encoding, shape):
        graph.output.append(helper.make_tensor_value_info(spec.name, _KINDS[spec.datatype], ["batch", *spec.shape[1:]]))
    graph.name, graph.doc_string, model.doc_string = "leptonai", "", ""
    model.producer_name, model.producer_version = "leptonai", ""


def _drop_unused_constants(graph: onnx.GraphProto) -> None:
    if any(attribute.HasField("g") or attribute.graphs for node in graph.node for attribute in node.attribute):
        return  # a graph inside a node may use them
    used = {name for node in graph.node for name in node.input}
    for index in reversed([i for i, tensor in enumerate(graph.initializer) if tensor.name not in used]):
        del graph.initializer[index]
