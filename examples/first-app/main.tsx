/// <reference types="vite/client" />
import { useState } from "react";
import { createRoot } from "react-dom/client";
import { createClient } from "roomcast";
import { useConnectionState, useEvent, useRoom } from "roomcast/react";
import type { Contract } from "./contract";

const client = createClient<Contract>({
  url: import.meta.env.VITE_WEBSOCKET_URL,
  getToken: () => new URLSearchParams(location.search).get("token"),
});

function Orders() {
  const [orders, setOrders] = useState<Record<string, string>>({});
  const set = (id: string, text: string) => setOrders((all) => ({ ...all, [id]: text }));
  const state = useConnectionState(client);
  useRoom(client, "orders");
  useEvent(client, "order:placed", ({ orderId, by }) => set(orderId, `placed by ${by}`));
  useEvent(client, "order:confirmed", ({ orderId, by }) => set(orderId, `confirmed by ${by}`));
  return (
    <>
      <h1>Orders ({state})</h1>
      <ul>
        {Object.entries(orders).map(([orderId, text]) => (
          <li key={orderId}>
            {orderId}: {text} <button onClick={() => client.send("order:confirm", { orderId })}>Confirm</button>
          </li>
        ))}
      </ul>
    </>
  );
}

createRoot(document.body).render(<Orders />);
