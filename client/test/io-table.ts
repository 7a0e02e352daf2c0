/** The tables of docs/migrating-from-socketio.md, made of what the adapter itself uses. */
import * as api from "../src/io-api.ts";

const START = "<!-- made by `npm run tables --workspace client` -->\n";
const END = "<!-- end of what is made -->\n";

type Works = Record<string, string>;
type Refused = Record<string, api.Refusal>;

/** One row for all names that have the same to say. */
function rows(works: Works, refused: Refused, code: (name: string) => string): string {
  const said = new Map<string, string[]>();
  const say = (name: string, text: string) => said.set(text, [...(said.get(text) ?? []), `\`${code(name)}\``]);
  for (const [name, note] of Object.entries(works)) if (!note) say(name, "the same");
  for (const [name, note] of Object.entries(works)) if (note) say(name, note);
  for (const [name, { instead }] of Object.entries(refused)) say(name, `refused: ${instead}`);
  return [
    "| Socket.IO | here |",
    "|---|---|",
    ...[...said].map(([text, names]) => `| ${names.join(", ")} | ${text} |`),
  ].join("\n");
}

export function table(): string {
  const sections: [string, Works, Refused, (name: string) => string][] = [
    ["Options of `io(url, options)`", api.WORKS.options, api.REFUSED_OPTIONS, (name) => name],
    ["Members of the socket", api.WORKS.socket, api.REFUSED_SOCKET, (name) => `socket.${name}`],
    ["Events of the socket", api.WORKS.events, {}, (name) => name],
    ["Members of the manager, `socket.io`", api.WORKS.manager, api.REFUSED_MANAGER, (name) => `socket.io.${name}`],
    ["Events of the manager", api.WORKS.managerEvents, api.REFUSED_MANAGER_EVENTS, (name) => name],
    ["Exports", { io: "", connect: "", protocol: "" }, api.REFUSED_EXPORTS, (name) => name],
  ];
  return sections.map(([title, works, refused, code]) => `**${title}**\n\n${rows(works, refused, code)}\n`).join("\n");
}

/** The page with these tables between its two marks. */
export function update(page: string, tables: string): string {
  const [start, end] = [page.indexOf(START), page.indexOf(END)];
  if (start < 0 || end < start) throw new Error(`the page needs the lines ${START}and ${END}`);
  return `${page.slice(0, start)}${START}\n${tables}\n${page.slice(end)}`;
}
