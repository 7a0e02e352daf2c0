export { type Client, type ClientOf, type ClientOptions, type Contract, createClient } from "./client.ts";
export type { WebSocketClass, WebSocketLike } from "./connection.ts";
export {
  type ActionMap,
  type ClientEvents,
  type ConnectionFacts,
  type Envelope,
  type Joined,
  type ProtocolActions,
  type ProtocolEvents,
  RoomcastError,
  type Room,
  type RoomJoined,
  type RoomsChange,
  type ServerError,
  type State,
  type StateChange,
  type StateCode,
} from "./protocol.ts";
export type { Position } from "./streams.ts";
