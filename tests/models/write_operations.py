"""Prints, as JSON, the operations of the TensorFlow that runs it and the names of their attributes.

visionserve/models/builds/cpu/operations holds what TensorFlow 1.15.5 (under Python 3.7) and 2.3.4 (3.8) printed, each
in an environment of its own with a protobuf older than 3.20:

    python tests/models/write_operations.py > visionserve/models/builds/cpu/operations/2.3.json
"""

import json

from tensorflow.core.framework.op_def_pb2 import OpList

try:
    from tensorflow.python.client.pywrap_tf_session import TF_GetAllOpList, TF_GetBuffer
except ImportError:
    from tensorflow.python.pywrap_tensorflow import TF_GetAllOpList, TF_GetBuffer

if __name__ == "__main__":
    operations = OpList.FromString(TF_GetBuffer(TF_GetAllOpList())).op
    rows = sorted((operation.name, [attribute.name for attribute in operation.attr]) for operation in operations)
    print("{" + ",\n".join(json.dumps(name) + ": " + json.dumps(attributes) for name, attributes in rows) + "}")
