// Another service: verifies the access tokens that it reads, a line each, and says whose they are.
import { createInterface } from "node:readline";
import { createRemoteJWKSet, jwtVerify } from "jose";

const [url, issuer, audience] = process.argv.slice(2);
const keys = createRemoteJWKSet(new URL("/.well-known/jwks.json", url));

for await (const token of createInterface({ input: process.stdin })) {
  try {
    const { payload } = await jwtVerify(token, keys, { issuer, audience, algorithms: ["EdDSA"] });
    console.log(payload.sub);
  } catch (error) {
    console.log(error.code);
  }
}
