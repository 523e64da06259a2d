package deitos;

import java.lang.reflect.InvocationTargetException;
import java.net.InetSocketAddress;

/**
 * Says something harmless over a protocol that is for workers, with the caller's ticket: asks a
 * NameNode for its version as DataNodes do, or tells a ResourceManager that a NodeManager that it
 * has never heard of is leaving. By reflection, so that it is compiled without Hadoop.
 */
public final class Speak {
    private static final String HDFS = "org.apache.hadoop.hdfs.";
    private static final String YARN = "org.apache.hadoop.yarn.";
    private static final String RECORDS = YARN + "server.api.protocolrecords.";

    private Speak() {
    }

    private static Object make(String name) throws ReflectiveOperationException {
        return Class.forName(name).getConstructor().newInstance();
    }

    private static void datanode(InetSocketAddress place) throws ReflectiveOperationException {
        Class<?> client = Class.forName(HDFS + "protocolPB.DatanodeProtocolClientSideTranslatorPB");
        Class<?> settings = Class.forName("org.apache.hadoop.conf.Configuration");
        Object speaker = client.getConstructor(InetSocketAddress.class, settings)
                .newInstance(place, make(HDFS + "HdfsConfiguration"));
        client.getMethod("versionRequest").invoke(speaker);
    }

    private static void nodemanager(InetSocketAddress place) throws ReflectiveOperationException {
        Class<?> client = Class.forName(YARN + "server.api.impl.pb.client.ResourceTrackerPBClientImpl");
        Class<?> settings = Class.forName("org.apache.hadoop.conf.Configuration");
        Object speaker = client.getConstructor(long.class, InetSocketAddress.class, settings)
                .newInstance(1L, place, make(YARN + "conf.YarnConfiguration"));
        Class<?> node = Class.forName(YARN + "api.records.NodeId");
        Object nobody = node.getMethod("newInstance", String.class, int.class).invoke(null, "none", 1);
        Class<?> leaving = Class.forName(RECORDS + "UnRegisterNodeManagerRequest");
        Object request = leaving.getMethod("newInstance", node).invoke(null, nobody);
        client.getMethod("unRegisterNodeManager", leaving).invoke(speaker, request);
    }

    public static void main(String[] words) throws ReflectiveOperationException {
        InetSocketAddress place = new InetSocketAddress(words[1], Integer.parseInt(words[2]));
        try {
            if (words[0].equals("datanode")) {
                datanode(place);
            } else {
                nodemanager(place);
            }
        } catch (InvocationTargetException refused) {
            System.out.println("refused: " + refused.getCause());
            System.exit(1);
        }
        System.out.println("heard");
    }
}
