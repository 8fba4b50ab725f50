async function connectWithRetry(maxRetries = 5) {
  let retries = 0;
  
  while (retries < maxRetries) {
    try {
      await client.connect();
      return;
    } catch (error) {
      retries++;
      const backoff = Math.min(1000 * Math.pow(2, retries), 30000);
      console.log(`Retry ${retries}/${maxRetries} in ${backoff}ms`);
      await new Promise(resolve => setTimeout(resolve, backoff));
    }
  }
  
  throw new Error("Failed to connect after max retries");
}
