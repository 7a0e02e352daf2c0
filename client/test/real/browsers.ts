/** Chromium and Firefox as Debian ships them, a site for pages that use the built client, and a network to break. */
import { existsSync, readFileSync } from "node:fs";
import { createServer as createSite, type Server as Site } from "node:http";
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";
import { join } from "node:path";
import puppeteer, { type Browser } from "puppeteer-core";

const PLACES = {
  Chromium: [
    process.env.CHROMIUM,
    "/usr/bin/chromium",
    "/usr/bin/chromium-browser",
    "/usr/bin/google-chrome",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
  ],
  Firefox: [
    process.env.FIREFOX,
    "/usr/bin/firefox-esr",
    "/usr/bin/firefox",
    "/Applications/Firefox.app/Contents/MacOS/firefox",
  ],
};
export type BrowserName = keyof typeof PLACES;

/** Where a browser is, or one clear line about what is missing. */
export function find(name: BrowserName): string {
  const path = PLACES[name].find((place) => place && existsSync(place));
  const debian = { Chromium: "chromium", Firefox: "firefox-esr" }[name];
  if (!path) throw new Error(`${name} not found: install Debian's package ${debian}, or set ${name.toUpperCase()}`);
  return path;
}

export const CHROMIUM_FLAGS = [
  "--no-sandbox", // in a container there is no other user to run as
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

/** Both know this machine as `lan.test` too, which is an address of the LAN to them: not a secure context. */
export function launch(name: BrowserName): Promise<Browser> {
  return puppeteer.launch(
    name === "Chromium"
      ? {
          browser: "chrome",
          executablePath: find(name),
          args: [...CHROMIUM_FLAGS, "--host-resolver-rules=MAP lan.test 127.0.0.1"],
          // People's browsers have it.
          ignoreDefaultArgs: ["--disable-back-forward-cache"],
        }
      : {
          browser: "firefox",
          executablePath: find(name),
          extraPrefsFirefox: { "network.dns.localDomains": "lan.test" },
        },
  );
}

const dist = join(import.meta.dirname, "..", "..", "dist");

/** Serves pages by their path, and the built modules under /roomcast/. */
export class Pages {
  private readonly site: Site;

  private constructor(site: Site) {
    this.site = site;
  }

  static async serve(pages: Record<string, string>): Promise<Pages> {
    const site = createSite((request, response) => {
      const path = new URL(request.url!, "http://localhost").pathname;
      const [, module] = /^\/roomcast\/([\w-]+\.js)$/.exec(path) ?? [];
      const text = module ? readFileSync(join(dist, module), "utf8") : pages[path];
      const type = path.endsWith(".js") ? "text/javascript" : "text/html";
      response.writeHead(text === undefined ? 404 : 200, {
        "Content-Type": `${type}; charset=utf-8`,
        "Access-Control-Allow-Origin": "*", // a sandboxed frame's origin is its own
      });
      response.end(text);
    });
    await new Promise<void>((resolve) => site.listen(0, "127.0.0.1", resolve));
    return new Pages(site);
  }

  url(path: string, host = "127.0.0.1"): string {
    return `http://${host}:${(this.site.address() as AddressInfo).port}${path}`;
  }

  close(): void {
    this.site.closeAllConnections();
    this.site.close();
  }
}

/** The network between a browser and a port of this machine, which a test may break. */
export class Network {
  private readonly server: Server;
  private readonly sockets = new Set<Socket>();
  /** New connections are refused. */
  private down = false;

  private constructor(server: Server, port: number) {
    this.server = server;
    server.on("connection", (near) => {
      if (this.down) return near.destroy();
      const far = connect(port, "127.0.0.1");
      for (const [socket, other] of [
        [near, far],
        [far, near],
      ] as const) {
        this.sockets.add(socket);
        socket.on("error", () => {}); // its close follows
        socket.on("close", () => {
          this.sockets.delete(socket);
          // A silent network does not pass this on either.
          if (!socket.isPaused()) other.destroy();
        });
        socket.pipe(other);
      }
    });
  }

  static async to(port: number): Promise<Network> {
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    return new Network(server, port);
  }

  get url(): string {
    return `ws://127.0.0.1:${(this.server.address() as AddressInfo).port}`;
  }

  /** Every connection stays open at both ends, and nothing passes over it any more, as with a NAT that forgot it. */
  forget(): void {
    for (const socket of this.sockets) {
      socket.unpipe();
      socket.pause();
    }
  }

  /** Every connection is cut; new ones work. */
  drop(): void {
    for (const socket of this.sockets) socket.destroy();
  }

  /** Every connection is cut, and new ones are refused until `repair()`. */
  cut(): void {
    this.down = true;
    this.drop();
  }

  repair(): void {
    this.down = false;
  }

  close(): void {
    this.cut();
    this.server.close();
  }
}
