"""The part of etcd's v3 protocol that the store speaks, as message classes made when this module is loaded.

Only the fields that are used are named; protobuf lets both sides skip the others. Field numbers are those of
https://github.com/etcd-io/etcd/blob/main/api/etcdserverpb/rpc.proto and of mvccpb/kv.proto beside it.
"""

from __future__ import annotations

from pinnace.machinery.message_table import message_classes

_PACKAGE = "pinnace.etcd"  # of our own: the names of messages do not travel, and another library may bring etcd's

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

EVENT_DELETE = 1  # Event.type; 0 is a put
TARGET_VERSION, TARGET_MOD = 0, 2  # Compare.target; Compare.result is left at 0, equal


_CLASSES = message_classes(_PACKAGE, _MESSAGES)

RangeRequest = _CLASSES["RangeRequest"]
RangeResponse = _CLASSES["RangeResponse"]
PutRequest = _CLASSES["PutRequest"]
PutResponse = _CLASSES["PutResponse"]
DeleteRangeRequest = _CLASSES["DeleteRangeRequest"]
RequestOp = _CLASSES["RequestOp"]
Compare = _CLASSES["Compare"]
TxnRequest = _CLASSES["TxnRequest"]
TxnResponse = _CLASSES["TxnResponse"]
CompactionRequest = _CLASSES["CompactionRequest"]
CompactionResponse = _CLASSES["CompactionResponse"]
WatchCreateRequest = _CLASSES["WatchCreateRequest"]
WatchRequest = _CLASSES["WatchRequest"]
WatchResponse = _CLASSES["WatchResponse"]
