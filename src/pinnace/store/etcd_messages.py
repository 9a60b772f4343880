"""The part of etcd's v3 protocol that the store speaks, as message classes made when this module is loaded.

Only the fields that are used are named; protobuf lets both sides skip the others. Field numbers are those of
https://github.com/etcd-io/etcd/blob/main/api/etcdserverpb/rpc.proto and of mvccpb/kv.proto beside it.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_PACKAGE = "pinnace.etcd"  # of our own: the names of messages do not travel, and another library may bring etcd's

# A message a line, a field a word: name=number:type, where `*` before the type says repeated.
_MESSAGES = """
ResponseHeader      revision=3:int64
KeyValue            key=1:bytes create_revision=2:int64 mod_revision=3:int64 version=4:int64 value=5:bytes
Event               type=1:int32 kv=2:KeyValue
RangeRequest        key=1:bytes range_end=2:bytes limit=3:int64 revision=4:int64 keys_only=8:bool
RangeResponse       header=1:ResponseHeader kvs=2:*KeyValue more=3:bool
PutRequest          key=1:bytes value=2:bytes
PutResponse         header=1:ResponseHeader
DeleteRangeRequest  key=1:bytes
RequestOp           request_range=1:RangeRequest request_put=2:PutRequest request_delete_range=3:DeleteRangeRequest
ResponseOp          response_range=1:RangeResponse
Compare             result=1:int32 target=2:int32 key=3:bytes version=4:int64 mod_revision=6:int64
TxnRequest          compare=1:*Compare success=2:*RequestOp failure=3:*RequestOp
TxnResponse         header=1:ResponseHeader succeeded=2:bool responses=3:*ResponseOp
CompactionRequest   revision=1:int64
CompactionResponse  header=1:ResponseHeader
WatchCreateRequest  key=1:bytes range_end=2:bytes start_revision=3:int64 progress_notify=4:bool
WatchRequest        create_request=1:WatchCreateRequest
WatchResponse       header=1:ResponseHeader created=3:bool canceled=4:bool compact_revision=5:int64
                    cancel_reason=6:string events=11:*Event
"""

_TYPES = {
    "bool": descriptor_pb2.FieldDescriptorProto.TYPE_BOOL,
    "bytes": descriptor_pb2.FieldDescriptorProto.TYPE_BYTES,
    "int32": descriptor_pb2.FieldDescriptorProto.TYPE_INT32,  # enumerations travel as these
    "int64": descriptor_pb2.FieldDescriptorProto.TYPE_INT64,
    "string": descriptor_pb2.FieldDescriptorProto.TYPE_STRING,
}

EVENT_DELETE = 1  # Event.type; 0 is a put
TARGET_VERSION, TARGET_MOD = 0, 2  # Compare.target; Compare.result is left at 0, equal


def _file() -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(name="pinnace/etcd.proto", package=_PACKAGE, syntax="proto3")
    for line in _MESSAGES.strip().splitlines():
        words = line.split()
        message = file.message_type[-1] if line.startswith(" ") else file.message_type.add(name=words.pop(0))
        for word in words:
            name, _, rest = word.partition("=")
            number, _, kind = rest.partition(":")
            _add_field(message, name, int(number), kind)
    return file


def _add_field(message: Any, name: str, number: int, kind: str) -> None:
    proto = descriptor_pb2.FieldDescriptorProto
    label = proto.LABEL_REPEATED if kind.startswith("*") else proto.LABEL_OPTIONAL
    kind = kind.removeprefix("*")
    field = message.field.add(name=name, number=number, label=label)
    if kind in _TYPES:
        field.type = _TYPES[kind]
    else:
        field.type, field.type_name = proto.TYPE_MESSAGE, f".{_PACKAGE}.{kind}"


_pool = descriptor_pool.DescriptorPool()
_pool.AddSerializedFile(_file().SerializeToString())


def _message(name: str) -> Any:
    return message_factory.GetMessageClass(_pool.FindMessageTypeByName(f"{_PACKAGE}.{name}"))


RangeRequest = _message("RangeRequest")
RangeResponse = _message("RangeResponse")
PutRequest = _message("PutRequest")
PutResponse = _message("PutResponse")
DeleteRangeRequest = _message("DeleteRangeRequest")
RequestOp = _message("RequestOp")
Compare = _message("Compare")
TxnRequest = _message("TxnRequest")
TxnResponse = _message("TxnResponse")
CompactionRequest = _message("CompactionRequest")
CompactionResponse = _message("CompactionResponse")
WatchCreateRequest = _message("WatchCreateRequest")
WatchRequest = _message("WatchRequest")
WatchResponse = _message("WatchResponse")
