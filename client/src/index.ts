export { type Client, type ClientOptions, createClient } from "./client.ts";
export type { WebSocketClass, WebSocketLike } from "./link.ts";
export {
  type ActionMap,
  type ClientEvents,
  type Envelope,
  type Joined,
  type ProtocolActions,
  type ProtocolEvents,
  RoomcastError,
  type Room,
  type ServerError,
  type State,
  type StateChange,
  type StateCode,
} from "./protocol.ts";
