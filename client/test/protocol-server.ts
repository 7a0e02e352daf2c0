/** A real WebSocket server on this machine that answers every action of the protocol, for what has sockets of its own. */
import { type AddressInfo } from "node:net";
import { WebSocketServer } from "ws";
import { reply } from "../src/testing.ts";

export class ProtocolServer {
  /** The tokens of all connections so far. */
  readonly tokens: (string | null)[] = [];
  private readonly server: WebSocketServer;

  private constructor(server: WebSocketServer) {
    this.server = server;
    server.on("connection", (connection, request) => {
      this.tokens.push(new URL(request.url!, "ws://localhost").searchParams.get("token"));
      connection.on("message", (text) => connection.send(JSON.stringify(reply(JSON.parse(`${text}`)))));
    });
  }

  static async start(): Promise<ProtocolServer> {
    const server = new WebSocketServer({ host: "127.0.0.1", port: 0 });
    await new Promise((resolve) => server.once("listening", resolve));
    return new ProtocolServer(server);
  }

  get url(): string {
    return `ws://127.0.0.1:${(this.server.address() as AddressInfo).port}`;
  }

  close(): void {
    for (const connection of this.server.clients) connection.terminate();
    this.server.close();
  }
}
