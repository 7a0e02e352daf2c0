import { SignJWT } from "jose";
import { signedIn } from "../../session";

export async function POST() {
  const userId = await signedIn();
  if (!userId) return new Response(null, { status: 401 });
  const token = await new SignJWT({ userId, role: "user" })
    .setProtectedHeader({ alg: "HS256" })
    .setIssuedAt()
    .setExpirationTime("5m")
    .sign(new TextEncoder().encode(process.env.JWT_SECRET));
  return Response.json({ token });
}
