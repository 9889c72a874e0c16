"""Writes a BERT encoder as an ONNX graph, directly from the model's safetensors.

The graph takes token ids and a mask and returns one unit vector for each text: embeddings, six layers, the mean over
the mask, normalisation. An export by the model's own framework gives the same graph, but the framework would have to
be installed.
"""

import json
import pathlib
import sys

import numpy
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file


class Graph:
    def __init__(self, weights):
        self.weights, self.nodes, self.initializers, self.count = weights, [], {}, 0

    def constant(self, name, value):
        if name not in self.initializers:
            self.initializers[name] = numpy_helper.from_array(numpy.ascontiguousarray(value), name)
        return name

    def weight(self, name, transpose=False):
        value = self.weights[name]
        return self.constant(name + (".t" if transpose else ""), value.T if transpose else value)

    def node(self, kind, *inputs, **attributes):
        self.count += 1
        out = f"{kind}_{self.count}"
        self.nodes.append(helper.make_node(kind, list(inputs), [out], name=out, **attributes))
        return out

    def linear(self, x, name):
        product = self.node("MatMul", x, self.weight(f"{name}.weight", transpose=True))
        return self.node("Add", product, self.weight(f"{name}.bias"))

    def norm(self, x, name, epsilon):
        return self.node("LayerNormalization", x, self.weight(f"{name}.weight"), self.weight(f"{name}.bias"),
                         axis=-1, epsilon=epsilon)


def onnx_bytes(folder):
    config = json.loads((folder / "config.json").read_text())
    heads, hidden = config["num_attention_heads"], config["hidden_size"]
    epsilon, size = config["layer_norm_eps"], config["hidden_size"] // config["num_attention_heads"]
    g = Graph(load_file(folder / "model.safetensors"))

    def ints(name, *values):
        return g.constant(name, numpy.array(values, dtype=numpy.int64))

    length = g.node("Shape", "input_ids", start=1, end=2)
    words = g.node("Gather", g.weight("embeddings.word_embeddings.weight"), "input_ids")
    places = g.node("Slice", g.weight("embeddings.position_embeddings.weight"), ints("zero", 0), length, ints("zero", 0))
    kind = g.constant("first_kind", g.weights["embeddings.token_type_embeddings.weight"][0])
    x = g.node("Add", g.node("Add", words, places), kind)
    x = g.norm(x, "embeddings.LayerNorm", epsilon)

    mask = g.node("Cast", "attention_mask", to=TensorProto.FLOAT)
    absent = g.node("Sub", g.constant("one", numpy.float32(1)), mask)
    penalty = g.node("Mul", absent, g.constant("minus_much", numpy.float32(-10_000)))
    penalty = g.node("Unsqueeze", penalty, ints("head_axes", 1, 2))
    scale = g.constant("scale", numpy.float32(size**-0.5))

    for layer in range(config["num_hidden_layers"]):
        name = f"encoder.layer.{layer}"

        def split(part):
            y = g.linear(x, f"{name}.attention.self.{part}")  # noqa: B023
            return g.node("Reshape", y, ints("split", 0, 0, heads, size))

        query = g.node("Transpose", split("query"), perm=[0, 2, 1, 3])
        key = g.node("Transpose", split("key"), perm=[0, 2, 3, 1])
        value = g.node("Transpose", split("value"), perm=[0, 2, 1, 3])
        scores = g.node("Add", g.node("Mul", g.node("MatMul", query, key), scale), penalty)
        seen = g.node("MatMul", g.node("Softmax", scores, axis=-1), value)
        seen = g.node("Reshape", g.node("Transpose", seen, perm=[0, 2, 1, 3]), ints("join", 0, 0, hidden))
        x = g.norm(g.node("Add", g.linear(seen, f"{name}.attention.output.dense"), x),
                   f"{name}.attention.output.LayerNorm", epsilon)
        wide = g.node("Gelu", g.linear(x, f"{name}.intermediate.dense"))
        x = g.norm(g.node("Add", g.linear(wide, f"{name}.output.dense"), x), f"{name}.output.LayerNorm", epsilon)

    column = g.node("Unsqueeze", mask, ints("last_axis", 2))
    total = g.node("ReduceSum", g.node("Mul", x, column), ints("text_axis", 1), keepdims=0)
    mean = g.node("Div", total, g.node("ReduceSum", column, ints("text_axis", 1), keepdims=0))
    out = g.node("Div", mean, g.node("ReduceL2", mean, ints("vector_axis", 1), keepdims=1))

    ids = [helper.make_tensor_value_info(n, TensorProto.INT64, ["texts", "tokens"])
           for n in ("input_ids", "attention_mask")]
    result = helper.make_tensor_value_info(out, TensorProto.FLOAT, ["texts", hidden])
    graph = helper.make_graph(g.nodes, "encoder", ids, [result], list(g.initializers.values()))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return model.SerializeToString()


if __name__ == "__main__":
    pathlib.Path(sys.argv[2]).write_bytes(onnx_bytes(pathlib.Path(sys.argv[1])))
